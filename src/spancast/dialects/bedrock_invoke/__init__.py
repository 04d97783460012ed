"""Bodies of models on Bedrock, as ``InvokeModel`` takes them."""
