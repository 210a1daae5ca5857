"""Control variates: cheap images of a scan and their covariance."""
