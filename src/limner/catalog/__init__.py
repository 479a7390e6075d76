"""Items: what they are, in versions, and the codes that facets and models read them by."""
