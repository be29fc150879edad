// Package browser tests what only a browser decides: which cookies it takes, keeps
// and sends, from which answers, and what it makes of Clear-Site-Data. It runs a
// headless Chromium, in whose tabs pages of the tests go through what users do and
// report what they have seen.
package browser
