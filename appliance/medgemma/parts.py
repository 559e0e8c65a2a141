"""What a checked bundle becomes when it is opened: the parts that one generation goes through, in that order."""

from dataclasses import dataclass, replace

from appliance.errors import PromptError
from appliance.medgemma.bundle import Bundle
from appliance.medgemma.constraint import ConstraintCompiler
from appliance.medgemma.decoder import Decoder
from appliance.medgemma.prompt import PromptBuilder
from appliance.medgemma.sessions import Brake, Compute, Session
from appliance.medgemma.tokenizer import Tokenizer
from appliance.medgemma.vision import ImageFeatures, VisionEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """An open model."""

    tokenizer: Tokenizer
    prompts: PromptBuilder
    vision: VisionEncoder | None
    """`None` for a text-only bundle."""
    decoder: Decoder
    constraints: ConstraintCompiler
    providers: tuple[str, ...]
    """Execution providers that the decoder's session really got."""

    def encode_image(self, content: bytes, brake: Brake) -> ImageFeatures:
        """Return the features of one photo.

        Raises:
            ImageError: The bytes are not a picture that this box reads.
            PromptError: The model takes text only.
            InterruptedRunError: The brake was pulled.
        """
        if self.vision is None:
            raise PromptError("This model takes text only and cannot look at an image.")
        return self.vision.encode(content, brake)


def open_parts(
    bundle: Bundle,
    compute: Compute,
    *,
    context_length: int,
    chunk_tokens: int,
    feature_cache_images: int,
    prefix_bytes: int,
) -> Parts:
    """Open everything in a bundle.

    Args:
        bundle: A checked bundle.
        compute: Where to run.
        context_length: Tokens in the KV cache.
        chunk_tokens: Prompt tokens in one run of the decoder.
        feature_cache_images: Photos whose features are kept.
        prefix_bytes: Memory for copies of prompts' beginnings.

    Raises:
        BundleError: A part does not open.
    """
    spec = bundle.manifest.architecture
    tokenizer = Tokenizer.from_file(bundle.tokenizer_path, spec.tokens)
    embedding = Session(bundle.graph_path("embedding"), compute)
    decoder = Session(bundle.graph_path("decoder"), compute)
    vision = None
    if spec.vision is not None:
        session = Session(bundle.graph_path("vision"), replace(compute, releases_memory=True))
        vision = VisionEncoder(
            session, spec.vision.image_size, bundle.manifest.preprocessing, cache_images=feature_cache_images
        )
    return Parts(
        tokenizer=tokenizer,
        prompts=PromptBuilder(bundle.manifest.chat_template, tokenizer, spec),
        vision=vision,
        decoder=Decoder(
            embedding,
            decoder,
            spec,
            context_length=context_length,
            chunk_tokens=chunk_tokens,
            prefix_bytes=prefix_bytes,
        ),
        constraints=ConstraintCompiler(tokenizer, spec.text.vocab_size, spec.tokens.eos_token_ids),
        providers=decoder.providers,
    )
