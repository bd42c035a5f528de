//! How long runs take: distributions by name, and numbers drawn from them.

use std::str::FromStr;

/// Numbers that only look random (Vigna's splitmix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between 0 and 1, neither included.
    pub fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let (radius, angle) = (self.share(), self.share());
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        median * (sigma * normal).exp()
    }
}

/// A distribution of run times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    AtOnce,
    Always(f64),
    Lognormal {
        median: f64,
        sigma: f64,
    },
    Exponential {
        mean: f64,
    },
    Weibull {
        shape: f64,
        scale: f64,
    },
    Uniform {
        least: f64,
        most: f64,
    },
    /// As many of one kind as of the other.
    Kinds {
        short: f64,
        long: f64,
        sigma: f64,
    },
    /// Lognormal, with another median from this run on.
    Jump {
        before: f64,
        after: f64,
        sigma: f64,
        at: u32,
    },
}

impl FromStr for Spread {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let numbers: Result<Vec<f64>, _> = parts.map(str::parse).collect();
        let numbers =
            numbers.map_err(|_| format!("{text}: a number is wanted after each colon"))?;
        match (name, numbers.as_slice()) {
            ("at-once", []) => Ok(Self::AtOnce),
            ("always", [seconds]) => Ok(Self::Always(*seconds)),
            ("lognormal", [median, sigma]) => Ok(Self::Lognormal {
                median: *median,
                sigma: *sigma,
            }),
            ("exponential", [mean]) => Ok(Self::Exponential { mean: *mean }),
            ("weibull", [shape, scale]) => Ok(Self::Weibull {
                shape: *shape,
                scale: *scale,
            }),
            ("uniform", [least, most]) => Ok(Self::Uniform {
                least: *least,
                most: *most,
            }),
            ("kinds", [short, long, sigma]) => Ok(Self::Kinds {
                short: *short,
                long: *long,
                sigma: *sigma,
            }),
            ("jump", [before, after, sigma, at]) => Ok(Self::Jump {
                before: *before,
                after: *after,
                sigma: *sigma,
                at: *at as u32,
            }),
            _ => Err(format!(
                "{text}: at-once, always:SECONDS, lognormal:MEDIAN:SIGMA, exponential:MEAN, \
                 weibull:SHAPE:SCALE, uniform:LEAST:MOST, kinds:SHORT:LONG:SIGMA or jump:BEFORE:AFTER:SIGMA:RUN is wanted"
            )),
        }
    }
}

impl Spread {
    /// How long run number `run` takes.
    pub fn draw(self, numbers: &mut Numbers, run: u32) -> f64 {
        match self {
            Self::AtOnce => 0.0,
            Self::Always(seconds) => seconds,
            Self::Lognormal { median, sigma } => numbers.lognormal(median, sigma),
            Self::Exponential { mean } => -mean * numbers.share().ln(),
            Self::Weibull { shape, scale } => scale * (-numbers.share().ln()).powf(1.0 / shape),
            Self::Uniform { least, most } => least + (most - least) * numbers.share(),
            Self::Kinds { short, long, sigma } => {
                let median = if numbers.share() < 0.5 { short } else { long };
                numbers.lognormal(median, sigma)
            }
            Self::Jump { .. } => self.at(run).draw(numbers, run),
        }
    }

    /// What run number `run` is drawn from.
    pub fn at(self, run: u32) -> Self {
        match self {
            Self::Jump {
                before,
                after,
                sigma,
                at,
            } => Self::Lognormal {
                median: if run < at { before } else { after },
                sigma,
            },
            same => same,
        }
    }

    /// The share of runs that end within so many seconds; of one that changes, at its beginning.
    pub fn ended_by(self, seconds: f64) -> f64 {
        if seconds <= 0.0 {
            return 0.0;
        }
        match self {
            Self::AtOnce => 1.0,
            Self::Always(all) => f64::from(seconds >= all),
            Self::Lognormal { median, sigma } => lognormal(median, sigma, seconds),
            Self::Exponential { mean } => 1.0 - (-seconds / mean).exp(),
            Self::Weibull { shape, scale } => 1.0 - (-(seconds / scale).powf(shape)).exp(),
            Self::Uniform { least, most } => ((seconds - least) / (most - least)).clamp(0.0, 1.0),
            Self::Kinds { short, long, sigma } => {
                let of = |median| lognormal(median, sigma, seconds);
                f64::midpoint(of(short), of(long))
            }
            Self::Jump { .. } => self.at(0).ended_by(seconds),
        }
    }
}

/// The share of a lognormal distribution below `x`.
fn lognormal(median: f64, sigma: f64, x: f64) -> f64 {
    let z = (x / median).ln() / sigma;
    0.5 * erfc(-z / std::f64::consts::SQRT_2)
}

/// The complementary error function, to seven digits (Numerical Recipes' Chebyshev fit).
fn erfc(x: f64) -> f64 {
    const FIT: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    let exponent = FIT.iter().fold(0.0, |sum, factor| sum * t + factor);
    let above = t * (exponent - x * x).exp();
    if x >= 0.0 { above } else { 2.0 - above }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_read_from_its_name() {
        let lognormal = Spread::Lognormal {
            median: 8.0,
            sigma: 0.6,
        };

        assert_eq!("lognormal:8:0.6".parse(), Ok(lognormal));
        assert!("lognormal:8".parse::<Spread>().is_err());
        assert!("always:x".parse::<Spread>().is_err());
    }

    #[test]
    fn what_is_drawn_is_spread_as_is_said() {
        for name in [
            "lognormal:8:0.6",
            "exponential:10",
            "weibull:1.5:12",
            "uniform:5:25",
            "kinds:3:20:0.25",
        ] {
            let spread: Spread = name.parse().unwrap();
            let mut numbers = Numbers::new(1);
            let drawn: Vec<f64> = (0..40_000)
                .map(|run| spread.draw(&mut numbers, run))
                .collect();
            for seconds in [2.0, 4.0, 9.0, 25.0] {
                let below = drawn.iter().filter(|drawn| **drawn <= seconds).count();
                let seen = below as f64 / drawn.len() as f64;
                let said = spread.ended_by(seconds);

                assert!(
                    (seen - said).abs() < 0.01,
                    "{name} by {seconds}: {seen}, {said}"
                );
            }
        }
    }
}
