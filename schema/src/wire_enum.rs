//! Small enums: a closed Rust enum for each open one of the schema.

/// Declares an enum whose variants are those of the generated one of the same names; the first
/// is the default, as in the schema. `from_wire` gives `None`
/// for a value of a newer version.
macro_rules! wire_enum {
    (
        $(#[$doc:meta])* $name:ident = $generated:ident {
            $(#[$first_doc:meta])* $first:ident,
            $($(#[$variant_doc:meta])* $variant:ident,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[$first_doc])*
            #[default]
            $first,
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            pub(crate) fn from_wire(wire: tidegate_schema_generated::$generated) -> Option<Self> {
                if wire == tidegate_schema_generated::$generated::$first {
                    return Some(Self::$first);
                }
                $(if wire == tidegate_schema_generated::$generated::$variant {
                    return Some(Self::$variant);
                })*
                None
            }

            pub(crate) const fn to_wire(self) -> tidegate_schema_generated::$generated {
                match self {
                    Self::$first => tidegate_schema_generated::$generated::$first,
                    $(Self::$variant => tidegate_schema_generated::$generated::$variant,)*
                }
            }
        }
    };
}

pub(crate) use wire_enum;
