package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tarn-build/tarn/build"
	"github.com/tarn-build/tarn/images"
)

// maxImages is how many images are composed at once where nobody says it. Each compresses
// its layers side by side already; a second one fills the processors while the first
// resolves and writes, and more than a few only take memory.
const maxImages = 4

// defaultImages is how many images are composed at once.
func defaultImages() int { return min(maxImages, defaultJobs()) }

// addJobs adds the flag of verbs that compose several images.
func (o *imageOptions) addJobs(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&o.jobs, "jobs", "j", 0, "how many images to compose at once (default: one for each processor, at most 4)")
}

// atOnce is how many images are composed at once.
func (o *imageOptions) atOnce() int {
	if o.jobs <= 0 {
		return defaultImages()
	}
	return o.jobs
}

// each does something for images, at most so many at once, and shows what runs. One that
// fails stops no other one; it is told when it happens where there are several. The errors
// are in the order of the images.
func (c *composer) each(ctx context.Context, specs []*images.Spec, jobs int, do func(ctx context.Context, i int, s *images.Spec) (done string, err error)) ([]error, error) {
	t := newTrace(c.traceFile)
	p := c.newProgress(len(specs), t)
	c.stage = func(image, stage, detail string) { p.report(build.Event{Recipe: image, Stage: stage, Detail: detail}) }
	before := c.said
	c.said = p
	defer func() { c.stage, c.said = nil, before }()
	failed := make([]error, len(specs))
	var running errgroup.Group
	running.SetLimit(max(1, jobs))
	for i, s := range specs {
		running.Go(func() error {
			if ctx.Err() != nil {
				failed[i] = context.Cause(ctx)
				return nil
			}
			done, err := do(ctx, i, s)
			switch {
			case err == nil:
				p.finish(s.Name(), done)
			case ctx.Err() != nil:
				failed[i] = context.Cause(ctx)
				p.finish(s.Name(), "")
			case len(specs) == 1:
				failed[i] = err
				p.finish(s.Name(), "")
			default:
				failed[i] = &shownError{err}
				p.finish(s.Name(), s.Name()+": failed\n"+c.told(err))
			}
			return nil
		})
	}
	_ = running.Wait() // the errors are in failed
	p.close()
	return failed, t.write()
}

// specsToDo gives the images to do, and tells of mistakes in files of others, which are an
// error in the end. Where nothing is left to do they are the error.
func (c *composer) specsToDo(names []string) (specs []*images.Spec, mistakes, err error) {
	specs, mistakes = c.specs(names)
	if mistakes != nil && len(specs) == 0 {
		return nil, nil, mistakes
	}
	if mistakes != nil {
		_, err := c.said.Write([]byte(plain(mistakes.Error()) + "\n"))
		return specs, &shownError{mistakes}, err
	}
	return specs, nil, nil
}
