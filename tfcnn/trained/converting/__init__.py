"""Published PyTorch weights, put into the suite's networks: see `tfcnn.convert`."""
