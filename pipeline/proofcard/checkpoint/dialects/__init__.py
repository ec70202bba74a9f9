"""The dialects of NVFP4: how makers lay out a quantized linear, and how its bytes follow from weights.

| module | says |
|---|---|
| layouts | the tensors of one linear in each layout, under one set of names |
| naming | a checkpoint's names against its source's: w1 for gate_proj, experts in one tensor or one by one |
| view | a checkpoint under one set of names |
| rules | the formulas: second-level scale, block scales, codes; data and pure functions |
| following | whether stored bytes follow by a rule, or every code from the scales as given |
| fp8 | the same for linears in FP8 beside those in NVFP4 |
| loops | the compiled loops of the formulas |
"""
