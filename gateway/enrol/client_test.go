package enrol

import (
	"crypto/tls"
	"net/http"
)

// insecureClient takes any certificate, as those of httptest are.
func insecureClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}
