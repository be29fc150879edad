module github.com/sojourn-go/sojourn/adapters/gorillastore

go 1.26.0

replace github.com/sojourn-go/sojourn => ../..

require (
	github.com/gorilla/sessions v1.4.0
	github.com/sojourn-go/sojourn v0.0.0-00010101000000-000000000000
)

require (
	github.com/felixge/httpsnoop v1.1.0 // indirect
	github.com/gorilla/securecookie v1.1.2 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	go.uber.org/zap v1.28.0 // indirect
)
