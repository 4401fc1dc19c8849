package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"time"

	"github.com/tarn-build/tarn/images"
)

// certificate is one for localhost with its key and the authority that signed it, in PEM.
// All of it lives as long as one test, and nobody outside of its sandbox trusts it.
type certificate struct{ certificate, key, authority []byte }

// issuer is the name of the authority.
const issuer = "tarn image test"

// withCertificate adds what a test asks for to the files that it brings, and gives the
// authority to trust.
func withCertificate(mounts map[string]string, c *images.TestCertificate) (all map[string]string, authority []byte, err error) {
	if c == nil {
		return mounts, nil, nil
	}
	made, err := makeCertificate()
	if err != nil {
		return nil, nil, err
	}
	all = map[string]string{c.File: string(made.certificate), c.Key: string(made.key)}
	if c.Authority != "" {
		all[c.Authority] = string(made.authority)
	}
	maps.Copy(all, mounts)
	return all, made.authority, nil
}

func makeCertificate() (*certificate, error) {
	now := time.Now()
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: issuer}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-certificateTime), NotAfter: now.Add(certificateTime),
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore: now.Add(-certificateTime), NotAfter: now.Add(certificateTime),
	}
	der, err := x509.CreateCertificate(rand.Reader, own, authority, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &certificate{block("CERTIFICATE", der), block("PRIVATE KEY", keyDER), block("CERTIFICATE", authorityDER)}, nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
