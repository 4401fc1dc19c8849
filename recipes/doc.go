// Package recipes is the first stage: it reads the recipe language, which is
// melange's, and makes scripts, in which nothing is left to decide.
//
//	NAME.yaml --Load--> Recipe --Expand (Target, Pipelines)--> Script
//
// It knows what the language means, the variables of a target, and the built-in
// pipelines in the folder pipelines. It does not know which packages exist, where
// sources are, or how a step is run: it reads files and gives values. Every mistake
// in a file comes with its line and column, all of them at once, as diag.Problems.
//
// The facts of the language were taken from melange's behaviour; where an existing
// recipe depends on it the same happens here, and TestCorpus holds that against what
// melange's own compiler makes of 1,702 recipes. Where this package differs, it is because
// melange is wrong: conditions and setcap of subpackages work, inputs of pipelines may be
// made of others however deep, build options count before variables are substituted,
// a value in a condition can't change the condition's shape, and inputs of the built-in
// pipelines can't leave the place in a script that they stand in (see Quoting).
package recipes
