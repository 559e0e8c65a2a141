"""The smallest shapes that specifications allow, for tests that need a shape and run no graph."""

from appliance.medgemma.spec import TextSpec, VisionSpec

IMAGE_TOKENS = 16
TEXT = TextSpec(
    vocab_size=512,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=8,
    query_pre_attn_scalar=8.0,
    rms_norm_eps=1e-6,
    layer_types=("full_attention",),
    sliding_window=16,
    rope_theta=1e6,
    rope_scaling_factor=1.0,
    rope_local_base_freq=1e4,
    max_position_embeddings=4096,
    tie_word_embeddings=True,
)
VISION = VisionSpec(
    image_size=32,
    patch_size=4,
    hidden_size=8,
    intermediate_size=8,
    num_hidden_layers=1,
    num_attention_heads=1,
    layer_norm_eps=1e-6,
    mm_tokens_per_image=IMAGE_TOKENS,
)
