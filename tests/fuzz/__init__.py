"""Bytes of strangers: sound ones that were spoilt; each parser says what is wrong instead of failing."""
