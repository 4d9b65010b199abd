"""Supply chain: known vulnerabilities and licences of the packages that the project needs."""
