//! Numbers that know their range: minimum, default and maximum are part of the field's type, so
//! that the check, the default, the JSON schema and the documentation cannot differ.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name<const MIN: u64, const DEFAULT: u64, const MAX: u64>(u64);

        impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> $name<MIN, DEFAULT, MAX> {
            const DEFAULT_FITS: () = assert!(MIN <= DEFAULT && DEFAULT <= MAX && MAX <= i64::MAX as u64);

            /// The value, or `None` when it is out of range.
            #[must_use]
            pub const fn new(value: u64) -> Option<Self> {
                if MIN <= value && value <= MAX { Some(Self(value)) } else { None }
            }
        }

        impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> Default for $name<MIN, DEFAULT, MAX> {
            fn default() -> Self {
                let () = Self::DEFAULT_FITS;
                Self(DEFAULT)
            }
        }

        impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> fmt::Debug for $name<MIN, DEFAULT, MAX> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> fmt::Display for $name<MIN, DEFAULT, MAX> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> Serialize for $name<MIN, DEFAULT, MAX> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.0)
            }
        }

        impl<'de, const MIN: u64, const DEFAULT: u64, const MAX: u64> Deserialize<'de>
            for $name<MIN, DEFAULT, MAX>
        {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_u64(InRange::<MIN, MAX>).map(Self)
            }
        }

        impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> JsonSchema for $name<MIN, DEFAULT, MAX> {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                format!("{}_{MIN}_{DEFAULT}_{MAX}", stringify!($name)).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
            }
        }
    };
}

bounded!(
    /// A duration in whole milliseconds, `MIN` to `MAX`, `DEFAULT` where nothing is configured.
    Ms
);
bounded!(
    /// A count or size, `MIN` to `MAX`, `DEFAULT` where nothing is configured.
    Count
);

impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> Ms<MIN, DEFAULT, MAX> {
    /// The value in ms.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The value as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<const MIN: u64, const DEFAULT: u64, const MAX: u64> Count<MIN, DEFAULT, MAX> {
    const FITS_USIZE: () = assert!(MAX <= usize::MAX as u64);
    const FITS_U32: () = assert!(MAX <= u32::MAX as u64);

    /// The value.
    #[must_use]
    pub const fn get(self) -> usize {
        let () = Self::FITS_USIZE;
        self.0 as usize
    }

    /// The value as `u32`; does not compile for a type whose maximum is larger.
    #[must_use]
    pub const fn get_u32(self) -> u32 {
        let () = Self::FITS_U32;
        self.0 as u32
    }
}

struct InRange<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for InRange<MIN, MAX> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        if (MIN..=MAX).contains(&value) {
            Ok(value)
        } else {
            Err(E::custom(format_args!("is {value}, must be {MIN} to {MAX}")))
        }
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<u64, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::custom(format_args!("is {value}, must be {MIN} to {MAX}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Small = Ms<10, 20, 30>;

    #[test]
    fn default_and_units() {
        assert_eq!(Small::default().duration(), Duration::from_millis(20));
        assert_eq!(Count::<0, 7, 9>::default().get_u32(), 7);
    }

    proptest! {
        #[test]
        fn exactly_the_range_is_accepted(value in -50i64..50) {
            let parsed = serde_json::from_value::<Small>(value.into());
            prop_assert_eq!(parsed.is_ok(), (10..=30).contains(&value));
            let constructed = u64::try_from(value).ok().and_then(Small::new);
            prop_assert_eq!(parsed.ok(), constructed);
        }
    }
}
