//! Signed JSON Web Tokens: RS, PS and ES with 256, 384 and, but for ES, 512 bits.
//!
//! `ES512` is missing: ring has no curve P-521. ring draws the randomness of PS and ES itself, so that those signatures
//! differ from one time to the next.

use std::sync::Once;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use jsonwebtoken::Validation;
use jsonwebtoken::crypto::CryptoProvider;
use jsonwebtoken::crypto::JwtSigner;
use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::crypto::KeyUtils;
use jsonwebtoken::errors::Error;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::signature;
use ring::rand::SystemRandom;
use ring::signature::ECDSA_P256_SHA256_FIXED;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::ECDSA_P384_SHA384_FIXED;
use ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::EcdsaSigningAlgorithm;
use ring::signature::KeyPair;
use ring::signature::RSA_PKCS1_2048_8192_SHA256;
use ring::signature::RSA_PKCS1_2048_8192_SHA384;
use ring::signature::RSA_PKCS1_2048_8192_SHA512;
use ring::signature::RSA_PKCS1_SHA256;
use ring::signature::RSA_PKCS1_SHA384;
use ring::signature::RSA_PKCS1_SHA512;
use ring::signature::RSA_PSS_2048_8192_SHA256;
use ring::signature::RSA_PSS_2048_8192_SHA384;
use ring::signature::RSA_PSS_2048_8192_SHA512;
use ring::signature::RSA_PSS_SHA256;
use ring::signature::RSA_PSS_SHA384;
use ring::signature::RSA_PSS_SHA512;
use ring::signature::RsaEncoding;
use ring::signature::RsaKeyPair;
use ring::signature::UnparsedPublicKey;
use ring::signature::VerificationAlgorithm;

use crate::connector::body::json;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;

/// The algorithms, as manifests name them.
pub const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

/// How a token is signed.
#[derive(Clone, Copy)]
pub struct Settings<'s> {
    /// One of `ALGORITHMS`.
    pub alg: &'s str,
    /// Names the key to the one who checks.
    pub kid: Option<&'s str>,
    /// The private key as PEM: PKCS#8, PKCS#1 or SEC 1.
    pub key: &'s str,
}

impl std::fmt::Debug for Settings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settings").field("alg", &self.alg).field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Returns the claims completed by `iat` (now) and `exp` (after `ttl`), where they do not say these themselves.
pub fn claims(given: &Value, now: Timestamp, ttl: Duration) -> Result<Value, String> {
    let seconds = |moment: Timestamp| Value::from(moment.micros().div_euclid(1_000_000));
    let mut claims: Map = given.as_map().ok_or("the claims of a token are an object")?.clone();
    claims.retain(|_, value| !value.is_null());
    claims.entry("iat".into()).or_insert_with(|| seconds(now));
    claims.entry("exp".into()).or_insert_with(|| seconds(now.plus(ttl)));
    Ok(Value::from(claims))
}

/// Returns the signed token.
pub fn sign(settings: &Settings<'_>, claims: &Value) -> Result<String, String> {
    install();
    let algorithm = algorithm(settings.alg)?;
    let key = encoding_key(settings.key, algorithm)?;
    let mut header = Header::new(algorithm);
    header.kid = settings.kid.map(str::to_owned);
    let text = json::write(claims)?;
    let claims = serde_json::value::RawValue::from_string(text).map_err(|error| error.to_string())?;
    jsonwebtoken::encode(&header, &claims, &key).map_err(|error| match error.kind() {
        ErrorKind::InvalidRsaKey(reason) => format!("the private key cannot be used: {reason}"),
        _ => format!("the private key does not fit `{}`", settings.alg),
    })
}

/// Returns the claims of a token whose signature a public (or private) key confirms, for the side that serves. Who it
/// is for and until when is not looked at here.
pub fn verify(token: &str, settings: &Settings<'_>) -> Result<Value, String> {
    install();
    let algorithm = algorithm(settings.alg)?;
    let header = jsonwebtoken::decode_header(token).map_err(|_| "the token is not a JWT")?;
    if settings.kid.is_some() && header.kid.as_deref() != settings.kid {
        return Err("`kid` of the token is wrong".to_owned());
    }
    let key = decoding_key(settings.key, algorithm)?;
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<serde::de::IgnoredAny>(token, &key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidAlgorithm => "`alg` of the token is wrong".to_owned(),
        ErrorKind::InvalidSignature => "the signature of the token is wrong".to_owned(),
        _ => "the token is not a JWT".to_owned(),
    })?;
    let payload = token.split('.').nth(1).unwrap_or_default();
    let payload =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).map_err(|error| error.to_string())?;
    json::decode(std::str::from_utf8(&payload).map_err(|_| "the claims of the token are not UTF-8")?)
}

fn algorithm(name: &str) -> Result<Algorithm, String> {
    let known = ALGORITHMS.contains(&name).then(|| name.parse().ok()).flatten();
    known.ok_or_else(|| format!("tokens cannot be signed with `{name}`; known are {}", ALGORITHMS.join(", ")))
}

/// A key that came through the environment may have `\n` written out.
fn pem_of(text: &str) -> String {
    text.replace("\\n", "\n").trim().to_owned()
}

fn encoding_key(text: &str, algorithm: Algorithm) -> Result<EncodingKey, String> {
    let pem = pem_of(text);
    if pem.contains("ENCRYPTED") {
        return Err("the private key is encrypted: give it decrypted, as a secret".to_owned());
    }
    let wrong = || format!("the private key is not a PEM that fits `{algorithm:?}`");
    if is_rsa(algorithm) {
        return EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| wrong());
    }
    if pem.contains("BEGIN EC PRIVATE KEY") {
        let der = sec1_der(&pem).ok_or_else(wrong)?;
        return Ok(EncodingKey::from_ec_der(&pkcs8_of(&der, algorithm).ok_or_else(wrong)?));
    }
    EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|_| wrong())
}

fn decoding_key(text: &str, algorithm: Algorithm) -> Result<DecodingKey, String> {
    let pem = pem_of(text);
    if pem.contains("PRIVATE KEY") {
        let key = encoding_key(text, algorithm)?;
        let wrong = |error: Error| format!("the key cannot be used: {error}");
        return if is_rsa(algorithm) {
            let pair = rsa_pair(key.as_bytes()).map_err(wrong)?;
            Ok(DecodingKey::from_rsa_der(pair.public().as_ref()))
        } else {
            let pair = ec_pair(key.as_bytes(), algorithm).map_err(wrong)?;
            Ok(DecodingKey::from_ec_der(pair.public_key().as_ref()))
        };
    }
    let key = if is_rsa(algorithm) {
        DecodingKey::from_rsa_pem(pem.as_bytes())
    } else {
        DecodingKey::from_ec_pem(pem.as_bytes())
    };
    key.map_err(|_| format!("the key is not a PEM that fits `{algorithm:?}`"))
}

fn is_rsa(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::ES256 | Algorithm::ES384)
}

/// Returns the content of the SEC 1 block of a PEM; a block with the curve's parameters may stand before it.
fn sec1_der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN EC PRIVATE KEY-----")?;
    let (body, _) = rest.split_once("-----END EC PRIVATE KEY-----")?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}

/// Puts a SEC 1 key into the PKCS#8 frame that ring asks for.
fn pkcs8_of(sec1: &[u8], algorithm: Algorithm) -> Option<Vec<u8>> {
    const PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    let curve = if algorithm == Algorithm::ES256 { P256 } else { P384 };
    let kind = der(0x30, &[PUBLIC_KEY, curve].concat())?;
    let key = der(0x04, sec1)?;
    der(0x30, &[&[0x02, 0x01, 0x00], kind.as_slice(), key.as_slice()].concat())
}

fn der(tag: u8, content: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![tag];
    let length = content.len();
    match u8::try_from(length).ok()? {
        short if short < 0x80 => out.push(short),
        long => out.extend([0x81, long]),
    }
    out.extend_from_slice(content);
    Some(out)
}

/// Makes ring the cryptography of the token library, once for the process.
fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |algorithm, key| {
            let key = if is_rsa(*algorithm) {
                PrivateKey::Rsa(Box::new(rsa_pair(key.as_bytes())?))
            } else {
                PrivateKey::Ec(Box::new(ec_pair(key.as_bytes(), *algorithm)?))
            };
            Ok(Box::new(RingSigner { algorithm: *algorithm, key, random: SystemRandom::new() }))
        },
        verifier_factory: |algorithm, key| {
            let key = key.try_get_as_bytes()?.to_vec();
            Ok(Box::new(RingVerifier { algorithm: *algorithm, key }))
        },
        // Key sets are not read here.
        key_utils: KeyUtils::new_unimplemented(),
    };
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Another provider may have come first, in a program that embeds this library; it signs as well.
        let _ = PROVIDER.install_default();
    });
}

fn rsa_pair(der: &[u8]) -> Result<RsaKeyPair, Error> {
    RsaKeyPair::from_der(der).map_err(|reason| ErrorKind::InvalidRsaKey(reason.to_string()).into())
}

fn ec_pair(pkcs8: &[u8], algorithm: Algorithm) -> Result<EcdsaKeyPair, Error> {
    let curve: &'static EcdsaSigningAlgorithm = match algorithm {
        Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    EcdsaKeyPair::from_pkcs8(curve, pkcs8, &SystemRandom::new()).map_err(|_| ErrorKind::InvalidEcdsaKey.into())
}

enum PrivateKey {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
}

struct RingSigner {
    algorithm: Algorithm,
    key: PrivateKey,
    random: SystemRandom,
}

impl signature::Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        match &self.key {
            PrivateKey::Rsa(pair) => {
                let padding: &'static dyn RsaEncoding = match self.algorithm {
                    Algorithm::RS256 => &RSA_PKCS1_SHA256,
                    Algorithm::RS384 => &RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &RSA_PSS_SHA256,
                    Algorithm::PS384 => &RSA_PSS_SHA384,
                    Algorithm::PS512 => &RSA_PSS_SHA512,
                    _ => return Err(signature::Error::new()),
                };
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &self.random, message, &mut out).map_err(|_| signature::Error::new())?;
                Ok(out)
            }
            PrivateKey::Ec(pair) => {
                pair.sign(&self.random, message).map(|made| made.as_ref().to_vec()).map_err(|_| signature::Error::new())
            }
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl signature::Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], made: &Vec<u8>) -> Result<(), signature::Error> {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::RS256 => &RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &RSA_PSS_2048_8192_SHA512,
            Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
            Algorithm::ES384 => &ECDSA_P384_SHA384_FIXED,
            _ => return Err(signature::Error::new()),
        };
        let key = UnparsedPublicKey::new(algorithm, &self.key);
        key.verify(message, made).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    const RSA: &str = include_str!("../../../tests/keys/rsa.pem");
    const RSA_PKCS1: &str = include_str!("../../../tests/keys/rsa-pkcs1.pem");
    const RSA_PUBLIC: &str = include_str!("../../../tests/keys/rsa-public.pem");
    const EC256: &str = include_str!("../../../tests/keys/ec256.pem");
    const EC256_SEC1: &str = include_str!("../../../tests/keys/ec256-sec1.pem");
    const EC256_PUBLIC: &str = include_str!("../../../tests/keys/ec256-public.pem");
    const EC384: &str = include_str!("../../../tests/keys/ec384.pem");
    const EC384_SEC1: &str = include_str!("../../../tests/keys/ec384-sec1.pem");
    const TOKENS: &str = include_str!("../../../tests/keys/tokens.txt");

    fn settings<'s>(alg: &'s str, key: &'s str) -> Settings<'s> {
        Settings { alg, kid: Some("k1"), key }
    }

    fn key_of(alg: &str) -> &'static str {
        match alg {
            "ES256" => EC256,
            "ES384" => EC384,
            _ => RSA,
        }
    }

    #[test]
    fn every_algorithm_signs_and_verifies() {
        let claims = parse_json(r#"{"iss":"client-id","scope":["restlets","rest_webservices"],"n":1.10}"#).unwrap();
        for alg in ALGORITHMS {
            let token = sign(&settings(alg, key_of(alg)), &claims).unwrap();
            assert_eq!(verify(&token, &settings(alg, key_of(alg))).unwrap(), claims, "{alg}");
            let header = jsonwebtoken::decode_header(&token).unwrap();
            assert_eq!((header.typ.as_deref(), header.kid.as_deref()), (Some("JWT"), Some("k1")));
            let (message, signature) = token.rsplit_once('.').unwrap();
            let flipped = if signature.starts_with('A') { "B" } else { "A" };
            let forged = format!("{message}.{flipped}{}", signature.get(1..).unwrap());
            let error = verify(&forged, &settings(alg, key_of(alg))).unwrap_err();
            assert_eq!(error, "the signature of the token is wrong", "{alg}");
        }
    }

    #[test]
    fn tokens_of_another_implementation_verify() {
        for (alg, token) in ALGORITHMS.iter().zip(TOKENS.lines()) {
            let claims = verify(token, &settings(alg, key_of(alg))).unwrap();
            assert_eq!(claims.get("iss"), Some(&Value::from("client")), "{alg}");
        }
        assert_eq!(TOKENS.lines().count(), ALGORITHMS.len());
    }

    #[test]
    fn a_token_of_rs256_is_the_same_every_time_and_in_every_form_of_the_key() {
        let claims = Value::map([("sub", Value::from("bot@acme.example"))]);
        let one = sign(&settings("RS256", RSA), &claims).unwrap();
        assert_eq!(sign(&settings("RS256", RSA_PKCS1), &claims).unwrap(), one);
        let escaped = RSA.replace('\n', "\\n");
        assert_eq!(sign(&settings("RS256", &escaped), &claims).unwrap(), one);
        verify(&one, &settings("RS256", RSA_PUBLIC)).unwrap();
    }

    #[test]
    fn keys_in_sec1_form_are_taken() {
        let claims = Value::map([("sub", Value::from("x"))]);
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let token = sign(&settings("ES256", &format!("{parameters}{EC256_SEC1}")), &claims).unwrap();
        verify(&token, &settings("ES256", EC256_PUBLIC)).unwrap();
        let token = sign(&settings("ES384", EC384_SEC1), &claims).unwrap();
        verify(&token, &settings("ES384", EC384)).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let claims = Value::map::<&str>([]);
        let error = |alg: &str, key: &str| sign(&settings(alg, key), &claims).unwrap_err();
        assert!(error("ES512", EC256).starts_with("tokens cannot be signed with `ES512`; known are RS256"));
        assert!(error("HS256", "secret").starts_with("tokens cannot be signed with `HS256`"));
        assert_eq!(error("RS256", EC256), "the private key is not a PEM that fits `RS256`");
        assert_eq!(error("ES256", RSA), "the private key is not a PEM that fits `ES256`");
        assert_eq!(error("ES256", EC384), "the private key does not fit `ES256`");
        assert_eq!(error("ES384", EC256_SEC1), "the private key does not fit `ES384`");
        assert_eq!(error("PS256", "nonsense"), "the private key is not a PEM that fits `PS256`");
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIF\n-----END ENCRYPTED PRIVATE KEY-----";
        assert!(error("RS256", encrypted).contains("encrypted"));
        let wrong = |token: &str, alg: &str| verify(token, &settings(alg, RSA)).unwrap_err();
        let token = TOKENS.lines().next().unwrap();
        assert_eq!(wrong(token, "RS512"), "`alg` of the token is wrong");
        assert_eq!(wrong("a.b", "RS256"), "the token is not a JWT");
        let other = Settings { kid: Some("k2"), ..settings("RS256", RSA) };
        assert_eq!(verify(token, &other).unwrap_err(), "`kid` of the token is wrong");
    }

    #[test]
    fn claims_get_their_time_and_secrets_are_laid_open() {
        let now = Timestamp(1_795_000_000_999_999);
        let given = Value::map([("iss", Value::from("id").tainted()), ("sub", Value::Null), ("exp", Value::from(7))]);
        let full = claims(&given, now, Duration::from_secs(180)).unwrap();
        assert_eq!(full.revealed().to_string(), r#"{"iss":"id","exp":7,"iat":1795000000}"#);
        let token = sign(&settings("RS256", RSA), &full).unwrap();
        assert_eq!(verify(&token, &settings("RS256", RSA)).unwrap(), full.revealed());
        let full = claims(&Value::map::<&str>([]), now, Duration::from_secs(180)).unwrap();
        assert_eq!(full.to_string(), r#"{"iat":1795000000,"exp":1795000180}"#);
        assert!(claims(&Value::Null, now, Duration::ZERO).is_err());
    }

    #[test]
    fn settings_do_not_show_their_key() {
        assert!(!format!("{:?}", settings("RS256", RSA)).contains("PRIVATE"));
    }
}
