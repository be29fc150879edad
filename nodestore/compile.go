package nodestore

import (
	"database/sql"
	"fmt"
	"strings"
)

// query is a statement and the names of the values that its parameters take.
type query struct {
	text string
	args []string
	stmt *sql.Stmt // nil where the driver prepares by itself
}

// values are what statements take, by the names that the templates use.
type values map[string]any

func (q *query) bind(v values) []any {
	args := make([]any, len(q.args))
	for i, name := range q.args {
		args[i] = v[name]
	}
	return args
}

// compiler turns templates into statements. In a template {:name} is a
// parameter, {name} is what names has, which is not looked into, or else what
// parts has, which is a template itself.
type compiler struct {
	numbered bool // parameters are $1, $2 …
	types    map[string]string
	names    map[string]string
	parts    map[string]string
}

func (c *compiler) compile(template string) *query {
	q := &query{}
	var b strings.Builder
	c.expand(&b, q, template)
	q.text = b.String()
	return q
}

func (c *compiler) expand(b *strings.Builder, q *query, template string) {
	for {
		before, rest, found := strings.Cut(template, "{")
		b.WriteString(before)
		if !found {
			return
		}
		var token string
		token, template, _ = strings.Cut(rest, "}")
		if arg, ok := strings.CutPrefix(token, ":"); ok {
			c.parameter(b, q, arg)
		} else if name, ok := c.names[token]; ok {
			b.WriteString(name)
		} else {
			c.expand(b, q, c.parts[token])
		}
	}
}

func (c *compiler) parameter(b *strings.Builder, q *query, arg string) {
	if !c.numbered {
		q.args = append(q.args, arg)
		b.WriteByte('?')
		return
	}
	at := 0
	for at < len(q.args) && q.args[at] != arg {
		at++
	}
	if at == len(q.args) {
		q.args = append(q.args, arg)
	}
	fmt.Fprintf(b, "$%d%s", at+1, c.types[arg])
}
