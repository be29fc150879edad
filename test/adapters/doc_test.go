// Package adapters tests the adapters beside the frameworks that they are for, through
// HTTP requests. Each defect of a framework is shown with the framework's own store
// first, so that the test is known to find it.
package adapters
