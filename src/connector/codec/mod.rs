//! Wire formats that YAML cannot express: bytes ⇄ values, pure.
