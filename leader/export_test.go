package leader

import "database/sql"

// Mistake makes a session expect the answers of another connection, as if it
// went through a pooler.
func Mistake(s Session[*sql.Conn]) { s.(*mysqlSession).id++ }
