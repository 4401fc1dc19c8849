package recipes

import (
	"fmt"
	"os"
	"strings"

	"github.com/joho/godotenv"

	"github.com/tarn-build/tarn/pkg/diag"
)

// LoadEnv reads environment variables for [Target].Env (--env-file): NAME=VALUE lines, as
// programs that read .env files know them, with "export", quotes and comments. Of several
// files the earlier ones count. A mistake is told by its line and never shows what stands
// there: it may be a secret.
func LoadEnv(files ...string) (map[string]string, error) {
	env := map[string]string{}
	var problems diag.Problems
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		found, err := godotenv.UnmarshalBytes(data)
		if err != nil {
			problems = append(problems, diag.Problem{File: file, Line: malformedLine(string(data)), Text: "no variable of the environment", Hint: "write NAME=VALUE, one a line"})
			continue
		}
		for name, value := range found {
			if name == "" || strings.ContainsRune(value, 0) {
				problems = append(problems, diag.Problem{File: file, Text: fmt.Sprintf("%q cannot be a variable of the environment: it has no name, or a NUL in its value", name)})
			}
			if _, earlier := env[name]; !earlier {
				env[name] = value
			}
		}
	}
	return env, problems.Err()
}

// malformedLine is the line at which reading stops: the one after the longest part, from
// the beginning, that can be read.
func malformedLine(text string) int {
	good, end := 0, 0
	for i, line := range strings.SplitAfter(text, "\n") {
		end += len(line)
		if _, err := godotenv.Unmarshal(text[:end]); err == nil {
			good = i + 1
		}
	}
	return good + 1
}
