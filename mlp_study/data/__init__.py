"""Images: the data sets, their files, the split, and what the network is fed."""
