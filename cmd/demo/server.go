package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// page is what the server serves.
const page = "<!doctype html><title>tarn</title><p>You can see the bottom.\n"

// serverConfig is nginx's, below the work folder. Everything that it writes goes to
// /tmp: the rest of the image can't be written.
const serverConfig = `daemon off;
master_process on;
worker_processes 1;
pid /tmp/nginx.pid;
error_log stderr warn;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path /tmp/body;
    proxy_temp_path /tmp/proxy;
    fastcgi_temp_path /tmp/fastcgi;
    uwsgi_temp_path /tmp/uwsgi;
    scgi_temp_path /tmp/scgi;
    types { text/html html; }
    server {
        listen 127.0.0.1:8443 ssl;
        http2 on;
        server_name localhost;
        ssl_certificate /home/build/server.pem;
        ssl_certificate_key /home/build/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / { root /home/build/www; }
    }
}
`

// authority is a certificate authority made for the test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	der  []byte
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{key, cert, der}, err
}

// issue makes a certificate for localhost.
func (a *authority) issue() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER), nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeServer fills the work folder: configuration, page, certificates of two
// authorities of which the server's is the right one.
func writeServer(dir string) error {
	right, err := newAuthority("tarn demo CA")
	if err != nil {
		return err
	}
	wrong, err := newAuthority("another CA")
	if err != nil {
		return err
	}
	cert, key, err := right.issue()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "www"), 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"nginx.conf": []byte(serverConfig), "www/index.html": []byte(page),
		"server.pem": cert, "server.key": key, "right.pem": block("CERTIFICATE", right.der), "wrong.pem": block("CERTIFICATE", wrong.der),
	} {
		// The server runs as another user; its key lives for a minute, in a folder of its own.
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
