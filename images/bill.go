package images

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/tarn-build/tarn/pkg/sbom"
)

// IndexSBOM writes the bill of materials of the index over images of one image file, as
// SPDX and as CycloneDX.
func IndexSBOM(images ...*Image) (spdx, cyclone []byte, err error) {
	index, err := Index(images...)
	if err != nil {
		return nil, nil, err
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, nil, err
	}
	sorted := slices.Clone(images)
	slices.SortFunc(sorted, func(a, b *Image) int { return cmp.Compare(a.About.Arch, b.About.Arch) })
	d := sbom.IndexDocument{Name: sorted[0].About.Name, Digest: digest.String()}
	for _, i := range sorted {
		d.Images = append(d.Images, sbom.IndexImage{Arch: i.About.Arch.GoArch(), Digest: i.About.Digest, Document: i.SBOM})
		d.Repository = cmp.Or(d.Repository, i.About.Config.Labels["org.opencontainers.image.source"])
		d.Commit = cmp.Or(d.Commit, i.About.Config.Labels["org.opencontainers.image.revision"])
		created, err := i.created()
		if err != nil {
			return nil, nil, err
		}
		d.Created = max(d.Created, created)
	}
	if spdx, err = sbom.Index(d); err != nil {
		return nil, nil, err
	}
	cyclone, err = sbom.IndexCycloneDX(d)
	return spdx, cyclone, err
}

// created is when the image was made, in Unix seconds.
func (i *Image) created() (int64, error) {
	var file v1.ConfigFile
	if err := json.Unmarshal(i.Config, &file); err != nil {
		return 0, err
	}
	return file.Created.Unix(), nil
}

// WriteDocument writes a bill of materials to a file, in a folder that is made where it is
// missing.
func WriteDocument(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write SBOM %s: %w", file, err)
	}
	if err := writeFile(file, data); err != nil {
		return fmt.Errorf("write SBOM %s: %w", file, err)
	}
	return nil
}
