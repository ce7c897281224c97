"""The desk's tools as three frameworks use them, each by its adapter; the README says how to run them."""
