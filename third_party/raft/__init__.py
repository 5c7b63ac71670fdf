"""RAFT optical flow, written from the paper; loads the authors' and torchvision's weights."""
