//! Who we are to a system: the kinds of auth of a manifest, and the custody of tokens.
