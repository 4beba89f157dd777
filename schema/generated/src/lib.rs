//! Code that flatc generates from the schema.
