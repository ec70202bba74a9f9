"""Signatures by an identity through Sigstore, checked by Sigstore's own client with its log's proofs."""

from proofcard.errors import one_line
from proofcard.files import plain
from proofcard.signatures.bundle import Bundle, Malformed
from proofcard.signatures.trust import Untrusted


class Identity:
    """Somebody, such as an e-mail address or a workflow, whom an identity provider vouches for."""

    def __init__(self, identity: str, provider: str) -> None:
        self._identity, self._provider = identity, provider

    def check(self, bundle: Bundle) -> None:
        """Check that the identity has signed the bundle.

        Raises:
            Untrusted: for a key's signature, another identity, and whatever the client refuses.
            Malformed: when the client cannot read it.
        """
        from sigstore.errors import Error
        from sigstore.models import Bundle as SigstoreBundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity as Policy

        if not bundle.certificates:
            raise Untrusted(f"{bundle.name} is signed with a key, not by an identity: give public_key=FILE")
        try:
            read = SigstoreBundle.from_json(bundle.content)
        except Exception as error:  # pydantic's and its own
            raise Malformed(f"{bundle.name} cannot be read: {plain(one_line(error))}") from None
        try:  # trusted roots as the client has them: nothing is fetched for a check
            verifier = Verifier.production(offline=True)
            _, payload = verifier.verify_dsse(read, Policy(identity=self._identity, issuer=self._provider))
        except Error as error:
            raise Untrusted(
                f"{bundle.name} is not signed by {plain(self._identity)}: {plain(one_line(error))}"
            ) from None
        if payload != bundle.payload:
            raise Untrusted(f"{bundle.name} is read in two ways: it has parts that contradict each other")

    def named(self) -> str:
        """Who it is."""
        return plain(self._identity)
