"""Files by which it is installed: Kubernetes, containers, Ansible, locks."""
