package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"time"
)

// insideVerb makes the command the client inside the sandbox.
const insideVerb = "inside"

const (
	serverAddress = "127.0.0.1:8443"
	serverURL     = "https://localhost:8443/"
	imageBundle   = "/etc/ssl/certs/ca-certificates.crt"
)

// inside runs in the sandbox: it starts the image's entrypoint with the demo's
// configuration, fetches the page twice, and prints what it saw as JSON.
func inside(entrypoint []string) error {
	if len(entrypoint) == 0 {
		return errors.New("the image has no entrypoint")
	}
	argv := append(slices.Clone(entrypoint[:1]), "-c", "/home/build/nginx.conf")
	server := exec.Command(argv[0], argv[1:]...)
	var complaints bytes.Buffer
	server.Stdout, server.Stderr = &complaints, &complaints
	if err := server.Start(); err != nil {
		return fmt.Errorf("start %s: %v", argv[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	if err := waitFor(serverAddress, ended); err != nil {
		return fmt.Errorf("%s: %v\n%s", argv[0], err, complaints.String())
	}
	f, err := fetchBoth()
	if err != nil {
		return fmt.Errorf("%v\n%s", err, complaints.String())
	}
	if err := server.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// waitFor waits until the server takes connections, or ends.
func waitFor(address string, ended <-chan error) error {
	deadline := time.After(20 * time.Second)
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("ended before it served: %v", err)
		case <-deadline:
			return fmt.Errorf("nothing listens at %s", address)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// fetchBoth fetches the page with the image's CA bundle and the right authority,
// then with the bundle and a wrong one, which must be refused.
func fetchBoth() (*fetched, error) {
	bundle, err := os.ReadFile(imageBundle)
	if err != nil {
		return nil, fmt.Errorf("read the image's CA bundle: %v", err)
	}
	f := &fetched{Bundle: bytes.Count(bundle, []byte("BEGIN CERTIFICATE"))}
	if f.Bundle == 0 {
		return nil, errors.New("the image's CA bundle is empty")
	}
	response, body, err := fetch(bundle, "/home/build/right.pem")
	if err != nil {
		return nil, fmt.Errorf("fetch with the right CA: %v", err)
	}
	if response.StatusCode != http.StatusOK || string(body) != page {
		return nil, fmt.Errorf("fetch: %s, %d bytes of another page", response.Status, len(body))
	}
	f.Status, f.Server, f.Bytes = response.Proto+" "+response.Status, response.Header.Get("Server"), len(body)
	f.TLS = tls.VersionName(response.TLS.Version)
	f.Issuer = response.TLS.PeerCertificates[0].Issuer.CommonName
	_, _, err = fetch(bundle, "/home/build/wrong.pem")
	if _, refused := errors.AsType[x509.UnknownAuthorityError](err); !refused {
		return nil, fmt.Errorf("a client that trusts another CA was not refused: %v", err)
	}
	f.Refused = "certificate signed by unknown authority"
	return f, nil
}

func fetch(bundle []byte, authorityFile string) (*http.Response, []byte, error) {
	authority, err := os.ReadFile(authorityFile)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	for _, certificates := range [][]byte{bundle, authority} {
		if !pool.AppendCertsFromPEM(certificates) {
			return nil, nil, errors.New("no certificate can be read")
		}
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
	response, err := client.Get(serverURL)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, body, err
}
