//! How a table of fields becomes a type with both of its forms, protobuf and JSON.

/// A number that stands for none of the choices that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(pub i32);

/// An enumeration: `NUMBER Name = "NAME OF THE API"`.
macro_rules! choice {
    ($name:ident { $($number:literal $variant:ident = $text:literal),* $(,)? }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($variant = $number),* }

        impl TryFrom<i32> for $name {
            type Error = Unknown;

            fn try_from(number: i32) -> Result<Self, Unknown> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    _ => Err(Unknown(number)),
                }
            }
        }

        impl $name {
            /// As the API calls it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl crate::api::json::Named for $name {
            const NAMES: &'static [(i32, &'static str)] = &[$(($number, $text)),*];
        }
    };
}

/// A field that is one of several: `NUMBER Variant = "name": type`.
macro_rules! one_of {
    ($name:ident { $($variants:tt)* }) => { one_of!(@ $name [] $($variants)*); };

    (@ $name:ident [$({ $variant:ident [$wire:literal] [$($attribute:tt)*] [$kind:ty] [$form:ty] })*]) => {
        #[derive(Clone, PartialEq, ::prost::Oneof)]
        pub enum $name { $(#[prost($($attribute)*)] $variant($kind),)* }

        impl crate::api::json::Variants for $name {
            fn write(&self, to: &mut crate::api::json::Object) {
                match self {
                    $(Self::$variant(value) => {
                        to.insert($wire.to_owned(), <$form as crate::api::json::One>::write(value));
                    })*
                }
            }

            fn read(name: &str, json: &serde_json::Value) -> Result<Option<Self>, crate::api::json::Invalid> {
                $(if crate::api::json::is_name(name, $wire) {
                    let value = <$form as crate::api::json::One>::read(json);
                    return Ok(Some(Self::$variant(value.map_err(|error| error.inside(name))?)));
                })*
                Ok(None)
            }
        }
    };

    (@ $name:ident $done:tt $tag:tt $variant:ident = $wire:literal: int64, $($rest:tt)*) => {
        one_of!(@add $name $done { $variant [$wire] [int64, tag = $tag] [i64] [i64] } $($rest)*);
    };
    (@ $name:ident $done:tt $tag:tt $variant:ident = $wire:literal: bytes, $($rest:tt)*) => {
        one_of!(@add $name $done
            { $variant [$wire] [bytes = "bytes", tag = $tag] [Bytes] [Bytes] } $($rest)*);
    };
    (@ $name:ident $done:tt $tag:tt $variant:ident = $wire:literal: $of:ident, $($rest:tt)*) => {
        one_of!(@add $name $done
            { $variant [$wire] [message, tag = $tag] [$of] [json::Whole<$of>] } $($rest)*);
    };
    (@add $name:ident [$($done:tt)*] $variant:tt $($rest:tt)*) => {
        one_of!(@ $name [$($done)* $variant] $($rest)*);
    };
}

/// A message: `NUMBER name: type`, and `= "NAME"` behind the name where the API has another than we.
/// A choice is kept as the number that came.
macro_rules! message {
    ($name:ident { $($fields:tt)* }) => { message!(@ $name [] $($fields)*); };

    (@ $name:ident [$({ $field:ident [$wire:expr] [$($attribute:tt)*] [$kind:ty] [$form:ty] })*]) => {
        #[derive(Clone, PartialEq, ::prost::Message)]
        pub struct $name { $(#[prost($($attribute)*)] pub $field: $kind,)* }

        impl crate::api::json::Json for $name {
            #[allow(unused_variables, reason = "not every message has fields")]
            fn write(&self, to: &mut crate::api::json::Object) {
                $(<$form as crate::api::json::Form>::write(&self.$field, $wire, to);)*
            }

            #[allow(unused_variables, unused_mut, reason = "not every message has fields")]
            fn read(&mut self, name: &str, json: &serde_json::Value) -> crate::api::json::Read {
                $(if <$form as crate::api::json::Form>::read(&mut self.$field, $wire, name, json)? {
                    return Ok(true);
                })*
                Ok(false)
            }
        }
    };

    (@ $name:ident $done:tt oneof $field:ident: $one:ident [$($tag:tt)*], $($rest:tt)*) => {
        message!(@add $name $done
            { $field [""] [oneof($one), tags($($tag),*)] [Option<$one>] [json::OneOf<$one>] } $($rest)*);
    };
    (@ $name:ident $done:tt $tag:tt $field:ident: $kind:ident $(($of:ident))?, $($rest:tt)*) => {
        message!(@kind $kind $name $done $tag $field [stringify!($field)] $(($of))? $($rest)*);
    };
    (@ $name:ident $done:tt $tag:tt $field:ident = $wire:literal: $kind:ident $(($of:ident))?, $($rest:tt)*) => {
        message!(@kind $kind $name $done $tag $field [$wire] $(($of))? $($rest)*);
    };

    (@kind bool $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done { $field $wire [bool, tag = $tag] [bool] [bool] } $($rest)*);
    };
    (@kind int64 $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done { $field $wire [int64, tag = $tag] [i64] [i64] } $($rest)*);
    };
    (@kind uint64 $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done { $field $wire [uint64, tag = $tag] [u64] [u64] } $($rest)*);
    };
    (@kind uint32 $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done { $field $wire [uint32, tag = $tag] [u32] [u32] } $($rest)*);
    };
    (@kind string $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done { $field $wire [string, tag = $tag] [String] [String] } $($rest)*);
    };
    (@kind strings $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [string, repeated, tag = $tag] [Vec<String>] [json::Several<String>] } $($rest)*);
    };
    (@kind bytes $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [bytes = "bytes", tag = $tag] [Bytes] [Bytes] } $($rest)*);
    };
    (@kind byte_strings $name:ident $done:tt $tag:tt $field:ident $wire:tt $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [bytes = "bytes", repeated, tag = $tag] [Vec<Bytes>] [json::Several<Bytes>] } $($rest)*);
    };
    (@kind choice $name:ident $done:tt $tag:tt $field:ident $wire:tt ($of:ident) $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [int32, tag = $tag] [i32] [json::Choice<$of>] } $($rest)*);
    };
    (@kind choices $name:ident $done:tt $tag:tt $field:ident $wire:tt ($of:ident) $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [int32, repeated, tag = $tag] [Vec<i32>] [json::Several<json::Choice<$of>>] } $($rest)*);
    };
    (@kind message $name:ident $done:tt $tag:tt $field:ident $wire:tt ($of:ident) $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [message, optional, tag = $tag] [Option<$of>] [json::Inner<$of>] } $($rest)*);
    };
    (@kind messages $name:ident $done:tt $tag:tt $field:ident $wire:tt ($of:ident) $($rest:tt)*) => {
        message!(@add $name $done
            { $field $wire [message, repeated, tag = $tag] [Vec<$of>] [json::Several<json::Whole<$of>>] } $($rest)*);
    };

    (@add $name:ident [$($done:tt)*] $field:tt $($rest:tt)*) => {
        message!(@ $name [$($done)* $field] $($rest)*);
    };
}
