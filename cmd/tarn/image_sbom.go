package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tarn-build/tarn/images"
)

// sbomOptions say which bills of materials are written, and where.
type sbomOptions struct {
	on      bool
	formats []string
	path    string
}

// The formats of bills of materials, by their words in --sbom-formats, and how their files end.
var sbomFormats = map[string]string{"spdx": ".spdx.json", "cyclonedx": ".cdx.json"}

func (o *sbomOptions) add(f *pflag.FlagSet) {
	f.BoolVar(&o.on, "sbom", true, "write bills of materials")
	f.StringSliceVar(&o.formats, "sbom-formats", []string{"spdx"}, "their formats: spdx (2.3), cyclonedx (1.7)")
	f.StringVar(&o.path, "sbom-path", "", "the folder for them, as sbom-ARCH.spdx.json and sbom-index.spdx.json (default: beside the image, as NAME.spdx.json)")
}

func (o *sbomOptions) check(images int) error {
	for _, format := range o.formats {
		if sbomFormats[format] == "" {
			return usagef("--sbom-formats %q is neither spdx nor cyclonedx", format)
		}
	}
	if o.path != "" && images > 1 {
		return usagef("--sbom-path is for one image, and there are %d", images)
	}
	return nil
}

// write writes the bills of materials of images, each of another architecture, and of
// their index where there are several. It gives the files of each image, and those of
// the index last.
func (o *sbomOptions) write(dir string, composed []*images.Image) ([][]string, error) {
	files := make([][]string, len(composed)+1)
	if !o.on {
		return files, nil
	}
	var index map[string][]byte
	if len(composed) > 1 {
		spdx, cyclone, err := images.IndexSBOM(composed...)
		if err != nil {
			return nil, err
		}
		index = map[string][]byte{"spdx": spdx, "cyclonedx": cyclone}
	}
	formats := slices.Compact(slices.Sorted(slices.Values(o.formats)))
	slices.Reverse(formats) // SPDX first
	for _, format := range formats {
		end := sbomFormats[format]
		for i, image := range composed {
			data := image.SBOM
			if format == "cyclonedx" {
				data = image.CycloneDX
			}
			file := filepath.Join(dir, image.About.FileName(end, len(composed) > 1))
			if o.path != "" {
				file = filepath.Join(o.path, "sbom-"+string(image.About.Arch)+end)
			}
			if err := images.WriteDocument(relative(file), data); err != nil {
				return nil, err
			}
			files[i] = append(files[i], file)
		}
		if index != nil {
			file := filepath.Join(dir, composed[0].About.Name+"-index"+end)
			if o.path != "" {
				file = filepath.Join(o.path, "sbom-index"+end)
			}
			if err := images.WriteDocument(relative(file), index[format]); err != nil {
				return nil, err
			}
			files[len(composed)] = append(files[len(composed)], file)
		}
	}
	return files, nil
}

// first is the first of some files, for those who know of one.
func first(files []string) string {
	if len(files) == 0 {
		return ""
	}
	return strings.TrimSpace(files[0])
}
