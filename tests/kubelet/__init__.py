"""Stand-ins of the kubelet and of Kubernetes' API server."""
