//! Measuring domains. Owner: pack helper.
