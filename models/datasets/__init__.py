"""Readers that yield labelled scenes and queries; one file per format."""
