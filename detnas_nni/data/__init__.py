"""Images and annotations: readers, transforms, data sets, loaders, and a generator of practice images."""
