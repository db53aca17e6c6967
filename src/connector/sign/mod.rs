//! Signers of requests: OAuth 1.0a, SigV4, JWT; pure.
