//! The rules about people and conversations.
