// Package tests runs the tests of an image file: it unpacks the image's layers as they
// were written, each once per digest, lays them over each other in a sandbox, and looks
// whether what the file says is true.
//
//	images.Tests, v1.Image --Open--> Root --Run--> Results
//
// Files, their modes and owners are judged by the layers' own words, whoever runs tarn.
// Commands and services run as the image's user, with its environment and folder, in a
// root that can't be written to but for /tmp, /run, volumes and what the tests declare;
// each test has a sandbox of its own, whose network is loopback.
package tests
