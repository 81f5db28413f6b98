"""Feature extractors: images to the vectors that scores compare. Contract: `genzoo.parts.Features`."""
