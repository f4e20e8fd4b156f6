"""The advice: answers in, a leaf of the decision graph with its reasons and doubts out."""
