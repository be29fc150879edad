// Package logging is the logger of those whose caller has set none.
package logging

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Or returns l, or if that is nil a logger that gives warnings and errors to the
// default logger of log/slog, whichever that is when they are written, and drops
// the rest.
func Or(l *zap.Logger) *zap.Logger {
	if l != nil {
		return l
	}
	return zap.New(toSlog{})
}

// toSlog is a core whose fields become attributes.
type toSlog struct {
	fields []zapcore.Field // of With, in order
}

func (c toSlog) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (c toSlog) With(fields []zapcore.Field) zapcore.Core {
	return toSlog{fields: slices.Concat(c.fields, fields)}
}

func (c toSlog) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c toSlog) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelError // and what is worse, which slog does not know
	if entry.Level == zapcore.WarnLevel {
		level = slog.LevelWarn
	}
	ctx, handler := context.Background(), slog.Default().Handler()
	if !handler.Enabled(ctx, level) {
		return nil
	}
	record := slog.NewRecord(entry.Time, level, entry.Message, 0)
	if entry.LoggerName != "" {
		record.AddAttrs(slog.String("logger", entry.LoggerName))
	}
	record.AddAttrs(attributes(slices.Concat(c.fields, fields))...)
	return handler.Handle(ctx, record)
}

func (c toSlog) Sync() error { return nil }

// attributes converts fields. A namespace is a group of all that follows it.
func attributes(fields []zapcore.Field) []slog.Attr {
	var attrs []slog.Attr
	for i, field := range fields {
		switch field.Type {
		case zapcore.NamespaceType:
			return append(attrs, slog.GroupAttrs(field.Key, attributes(fields[i+1:])...))
		case zapcore.ErrorType: // as it is: zap would add its causes once more
			attrs = append(attrs, slog.Any(field.Key, field.Interface))
		default:
			encoded := zapcore.NewMapObjectEncoder()
			field.AddTo(encoded)
			for _, key := range slices.Sorted(maps.Keys(encoded.Fields)) {
				attrs = append(attrs, slog.Any(key, encoded.Fields[key]))
			}
		}
	}
	return attrs
}
