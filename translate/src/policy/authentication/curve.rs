//! Whether a pair of numbers is a point of one of the curves that tokens are signed on.
//!
//! Envoy refuses a key that is not, so we have to know before we send it. Nothing here is secret,
//! so nothing here needs constant time.

use std::cmp::Ordering;

/// 576 bits, the lowest first: room for the largest field and a carry.
type Number = [u64; 9];

/// A curve y² = x³ - 3x + b over a prime field.
pub(super) struct Curve {
    /// The name in a key's `crv`.
    pub(super) name: &'static str,
    /// The algorithm of its signatures.
    pub(super) algorithm: &'static str,
    prime: &'static str,
    b: &'static str,
}

/// As FIPS 186-4 gives them.
pub(super) const CURVES: [Curve; 3] = [
    Curve {
        name: "P-256",
        algorithm: "ES256",
        prime: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        b: "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    },
    Curve {
        name: "P-384",
        algorithm: "ES384",
        prime: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        b: "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
    },
    Curve {
        name: "P-521",
        algorithm: "ES512",
        prime: "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        b: "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
    },
];

impl Curve {
    /// Whether the coordinates, big-endian, are a point of the curve.
    pub(super) fn holds(&self, x: &[u8], y: &[u8]) -> bool {
        let (prime, b) = (hex(self.prime), hex(self.b));
        let (Some(x), Some(y)) = (number(x), number(y)) else { return false };
        if compare(&x, &prime) != Ordering::Less || compare(&y, &prime) != Ordering::Less {
            return false;
        }
        // With 3x on the other side nothing is subtracted: y² + 3x = x³ + b.
        let square = |number| multiply(number, number, &prime);
        let left = (0..3).fold(square(&y), |sum, _| add(&sum, &x, &prime));
        let right = add(&multiply(&square(&x), &x, &prime), &b, &prime);
        left == right
    }
}

/// `None` for more than fits.
fn number(bytes: &[u8]) -> Option<Number> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    // One limb stays free for carries.
    if digits.len() > 66 {
        return None;
    }
    let mut number = Number::default();
    for (place, byte) in digits.iter().rev().enumerate() {
        number[place / 8] |= u64::from(*byte) << (place % 8 * 8);
    }
    Some(number)
}

fn hex(digits: &str) -> Number {
    let mut number = Number::default();
    for (place, digit) in digits.chars().rev().enumerate() {
        number[place / 16] |= u64::from(digit.to_digit(16).unwrap_or_default()) << (place % 16 * 4);
    }
    number
}

fn compare(one: &Number, other: &Number) -> Ordering {
    one.iter().rev().cmp(other.iter().rev())
}

/// Both are below the prime, so their sum fits, and taking the prime away once is enough.
fn add(one: &Number, other: &Number, prime: &Number) -> Number {
    let mut sum = Number::default();
    let mut carry = false;
    for place in 0..sum.len() {
        let (partial, first) = one[place].overflowing_add(other[place]);
        let (total, second) = partial.overflowing_add(u64::from(carry));
        (sum[place], carry) = (total, first || second);
    }
    if compare(&sum, prime) == Ordering::Less {
        return sum;
    }
    let mut rest = Number::default();
    let mut borrow = false;
    for place in 0..rest.len() {
        let (partial, first) = sum[place].overflowing_sub(prime[place]);
        let (total, second) = partial.overflowing_sub(u64::from(borrow));
        (rest[place], borrow) = (total, first || second);
    }
    rest
}

/// By doubling and adding, bit for bit: a key is looked at once, not once a request.
fn multiply(one: &Number, other: &Number, prime: &Number) -> Number {
    let mut product = Number::default();
    for limb in other.iter().rev() {
        for bit in (0..u64::BITS).rev() {
            product = add(&product, &product, prime);
            if limb >> bit & 1 == 1 {
                product = add(&product, one, prime);
            }
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generators of the curves, from FIPS 186-4.
    const GENERATORS: [(&str, &str); 3] = [
        (
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        ),
        (
            "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
            "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
        ),
        (
            "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
            "011839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
        ),
    ];

    fn bytes(digits: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    #[test]
    fn a_generator_is_on_its_curve_and_on_no_other() {
        for (curve, (x, y)) in CURVES.iter().zip(GENERATORS) {
            assert!(curve.holds(&bytes(x), &bytes(y)), "{}", curve.name);
            assert!(!curve.holds(&bytes(y), &bytes(x)), "{}", curve.name);
            for other in CURVES.iter().filter(|other| other.name != curve.name) {
                assert!(!other.holds(&bytes(x), &bytes(y)), "{} on {}", curve.name, other.name);
            }
        }
    }

    #[test]
    fn numbers_outside_the_field_are_no_coordinates() {
        let curve = &CURVES[0];
        let (x, y) = (bytes(GENERATORS[0].0), bytes(GENERATORS[0].1));
        let shifted = |number: &[u8]| [&[1][..], number].concat();
        assert!(!curve.holds(&shifted(&x), &y));
        assert!(!curve.holds(&[], &[]));
        assert!(!curve.holds(&[0xff; 100], &y));
        // Zeros in front are no other number.
        assert!(curve.holds(&[&[0][..], &x].concat(), &y));
    }
}
