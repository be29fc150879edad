package pgschema

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sojourn-go/sojourn/leader"
)

// maxName is how many bytes of a name Postgres keeps (NAMEDATALEN - 1). It
// cuts longer ones without an error, so two of them may become one.
const maxName = 63

// partitionSuffix is the longest that may follow a partition's prefix: a bucket of ten
// digits, an underscore and three digits to tell it from a name in use.
const partitionSuffix = 14

// Names are the names of everything that belongs to one sessions table. Two
// pairs of schema and table never share one.
type Names struct {
	// Schema and Table are the names as given, unquoted.
	Schema, Table string
	// Sessions, Meta, Version and MakePartition are the sessions table, the table
	// of what all nodes agree on, tern's version table and the function that
	// makes a partition: quoted and with their schema, ready to be put into SQL.
	Sessions, Meta, Version, MakePartition string
	// PartitionPrefix, unquoted, is what the names of partitions begin with. The lower
	// bound follows and, if that name was in use, an underscore and a number.
	PartitionPrefix string
	// MigrateKey is the advisory lock key that migrations.Up holds, DDLKey the one under
	// which partitions are made and retired.
	MigrateKey, DDLKey int64
	// PrimaryKey, UserIndex and MetaKey, unquoted, are the indexes of the sessions
	// table and that of the meta table.
	PrimaryKey, UserIndex, MetaKey string

	metaTable, versionTable, makePartition string
}

// NamesOf derives the names from those of a schema and a table. Any name that
// Postgres can hold is allowed: 1 to 63 bytes of UTF-8 without NUL. Another
// one is ErrInvalid.
func NamesOf(schema, table string) (Names, error) {
	if err := CheckName("Schema", schema); err != nil {
		return Names{}, err
	}
	if err := CheckName("Table", table); err != nil {
		return Names{}, err
	}
	n := Names{
		Schema: schema, Table: table,
		PartitionPrefix: derive(table, "_", partitionSuffix),
		MigrateKey:      leader.Key("sojourn", schema, table, "migrate"),
		DDLKey:          leader.Key("sojourn", schema, table, "ddl"),
		metaTable:       derive(table, "_meta", 0),
		versionTable:    derive(table, "_version", 0),
		makePartition:   derive(table, "_make_partition", 0),
		PrimaryKey:      derive(table, "_pkey", 0),
		UserIndex:       derive(table, "_user_idx", 0),
		MetaKey:         derive(table, "_meta_pkey", 0),
	}
	n.Sessions = n.Qualify(table)
	n.Meta = n.Qualify(n.metaTable)
	n.Version = n.Qualify(n.versionTable)
	n.MakePartition = n.Qualify(n.makePartition)
	return n, nil
}

// Qualify returns the name of a relation in the schema, such as a partition,
// quoted and with its schema.
func (n Names) Qualify(relation string) string {
	return pgx.Identifier{n.Schema, relation}.Sanitize()
}

// PartitionComment is the comment that marks a table as a partition for the buckets from
// lo up to, but not including, hi. It stays when the partition is detached.
func (n Names) PartitionComment(lo, hi int32) string {
	return PartitionMark(n) + strconv.Itoa(int(lo)) + " to " + strconv.Itoa(int(hi))
}

// PartitionMark is what PartitionComment begins with.
func PartitionMark(n Names) string {
	return "sojourn partition of " + n.Schema + "." + n.Table + ": "
}

var partitionBounds = regexp.MustCompile(`\A(-?[0-9]{1,10}) to (-?[0-9]{1,10})\z`)

// ParsePartitionComment reads what PartitionComment wrote for the same schema and table.
func (n Names) ParsePartitionComment(comment string) (lo, hi int32, ok bool) {
	rest, ok := strings.CutPrefix(comment, PartitionMark(n))
	if !ok {
		return 0, 0, false
	}
	m := partitionBounds.FindStringSubmatch(rest)
	if m == nil {
		return 0, 0, false
	}
	from, err1 := strconv.ParseInt(m[1], 10, 32)
	to, err2 := strconv.ParseInt(m[2], 10, 32)
	if err1 != nil || err2 != nil || from >= to {
		return 0, 0, false
	}
	return int32(from), int32(to), true
}

// CheckName is ErrInvalid, with the field, if Postgres cannot hold the name as it is.
func CheckName(field, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: %s is empty", ErrInvalid, field)
	case len(name) > maxName:
		return fmt.Errorf("%w: %s has %d bytes; the limit is %d", ErrInvalid, field, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %s is not valid UTF-8", ErrInvalid, field)
	case strings.ContainsRune(name, 0):
		return fmt.Errorf("%w: %s contains a NUL byte", ErrInvalid, field)
	}
	return nil
}

// derive returns name+suffix if that leaves reserve bytes free, else the start
// of name with a hash of all of it before the suffix.
func derive(name, suffix string, reserve int) string {
	room := maxName - reserve - len(suffix)
	if len(name) <= room {
		return name + suffix
	}
	sum := sha256.Sum256([]byte(name))
	hash := "_" + hex.EncodeToString(sum[:4])
	end := room - len(hash)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + hash + suffix
}
