"""What the configuration refers to (certificates, keys, secrets, the policy, directories): reads and checks it.

`material` puts the parts together and is what others call. `findings` collects what is wrong, each at the line that
names the thing, so that one list tells an operator everything. The parts: `surroundings` (sockets and directories),
`postgres`, `ssh`, `http`, `issuers` and `policy`. Nothing here changes anything on disk.
"""

from proxyd.references.material import Material, read_documents

__all__ = ["Material", "read_documents"]
