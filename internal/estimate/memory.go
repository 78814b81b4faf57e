package estimate

import "github.com/quant-exporter/quant-exporter/internal/gguf"

// MemoryBesides is about how many bytes a server takes beside a model's weights, with so
// many tokens in its cache and so many in a batch: the KV cache, and what the computation of
// a batch needs, which is mostly the logits and the widest layer of each of its tokens, in
// F32. A build with other defaults can need more.
func MemoryBesides(model *gguf.Header, tokens, batch int) int64 {
	const f32 = 4
	widest := int64(0)
	for _, t := range model.Tensors {
		if t.Dimensions() == 2 && t.Name != "token_embd.weight" {
			widest = max(widest, t.Dims[1])
		}
	}
	perToken := max(widest, model.Vocabulary) + 4*model.Embedding
	return int64(cachePerToken(model))*int64(tokens) + perToken*f32*int64(batch) + processBytes
}

// processBytes is what the process of a server has of its own, measured of build 11669: the
// libraries, the vocabulary, the buffers of its threads.
const processBytes = 64 << 20
