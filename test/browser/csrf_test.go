//go:build unix

package browser

import (
	"fmt"
	"html/template"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sojourn-go/sojourn/session"
)

// frame has a page of a frame do things, and says what it shows.
const frame = `
const frame = document.body.appendChild(document.createElement("iframe"));
const shown = act => new Promise(done => {
	frame.onload = () => done(frame.contentDocument.body.textContent);
	act(frame.contentWindow);
});
`

var formPage = template.Must(template.New("form").Parse(`<!doctype html><meta name="csrf-token" content="{{.}}">
<form method="post" action="/pay"><input type="hidden" name="csrf_token" value="{{.}}"></form>`))

// pays has a page /form, whose form goes to /pay.
func (s *site) pays() {
	protected := http.NewServeMux()
	protected.HandleFunc("/pay", func(w http.ResponseWriter, r *http.Request) {
		one, err := session.FromContext(r.Context())
		if err != nil {
			s.Error(err)
			return
		}
		fmt.Fprintf(w, "paid by %q", one.User())
	})
	s.mux.HandleFunc("/pay", func(w http.ResponseWriter, r *http.Request) { s.m.Load().RequireCSRF(protected).ServeHTTP(w, r) })
	s.page("/form", func(v visit) {
		token, err := v.s.CSRFToken()
		v.must("CSRFToken", err)
		v.must("the page", formPage.Execute(v.w, token))
	})
}

func TestAFormOfThePageBringsItsToken(t *testing.T) {
	s := newSite(t, session.Options{})
	s.pays()
	report := s.run("/", frame+`
		const form = () => shown(w => w.location = "/form");
		const submit = () => shown(w => w.document.forms[0].submit());
		const byScript = () => ask("/pay", {method: "POST", body: "{}", headers: {
			"Content-Type": "application/json", "X-CSRF-Token": frame.contentDocument.querySelector("meta").content}});
		const report = {};
		report.without = await ask("/pay", {method: "POST"});
		await form();
		report.visitorByScript = await byScript();
		report.visitor = await submit();
		await form();
		await ask("/set?key=cart");
		report.withCart = await submit();
		await form();
		await ask("/login?as=alice");
		report.before = await submit();
		await form();
		report.byScript = await byScript();
		report.alice = await submit();
		await shown(w => w.history.back());
		report.back = await submit();
		report.rows = document.cookie;
		return report;`)
	for what, want := range map[string]any{
		"without": "Forbidden\n", "visitorByScript": `paid by ""`, "visitor": `paid by ""`, "withCart": `paid by ""`,
		"before": "Forbidden\n", "byScript": `paid by "alice"`, "alice": `paid by "alice"`, "back": `paid by "alice"`, "rows": "",
	} {
		s.is(report, what, want)
	}
}

// A page of a sister host is of the same site: SameSite does not keep the cookie
// back. Browsers say so by Sec-Fetch-Site over TLS, and by Origin without.
func TestAPageOfASisterHostIsRefused(t *testing.T) {
	for name, plain := range map[string]bool{"over TLS": false, "over plain HTTP": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, session.Options{Policy: session.PolicyHigh(), Cookie: session.Cookie{Insecure: plain}})
			if host := s.address.Hostname(); plain {
				s.plain(host)
			}
			s.pays()
			var came, changed, refused atomic.Int64
			s.page("/open", func(v visit) {
				if v.s.User() == "alice" {
					came.Add(1)
				}
			})
			count := func(w http.ResponseWriter, _ *http.Request) { changed.Add(1) }
			deny := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { refused.Add(1) })
			protection := http.NewCrossOriginProtection()
			protection.SetDenyHandler(deny)
			s.mux.Handle("/protected", protection.Handler(http.HandlerFunc(count)))
			s.mux.Handle("/token", s.m.Load().RequireCSRF(http.HandlerFunc(count)))
			s.run("/", `await ask("/login?as=alice"); return {};`)

			attacked := s.address.String()
			own := *s.address
			own.Host = "evil." + own.Host[len("www."):]
			s.address = &own
			s.run("/attack/", fmt.Sprintf(`
				for (const path of ["/open", "/protected", "/token"])
					await fetch(%q + path, {method: "POST", mode: "no-cors", credentials: "include"});
				return {};`, attacked))
			if came.Load() != 1 || changed.Load() != 0 || refused.Load() != 1 {
				t.Errorf("the cookie came %d times, %d changes, %d refused", came.Load(), changed.Load(), refused.Load())
			}
		})
	}
}
