//! Picture in, restyled picture out. Owner: pipeline helper.
