"""What may enter and under which name: keys, pseudonyms, sealed identities, the policy, erasure."""
