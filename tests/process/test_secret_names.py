"""Which names are those of secrets, and which values can be told from ordinary text."""

from __future__ import annotations

import pytest

from fm_mlflow.process.secret_names import is_secret_name, is_stated, is_telling

SECRETS = """
    PGPASSWORD MYSQL_PWD DB_PASS SMTP_PASS REDISCLI_AUTH MYSQL_ROOT_PASSWORD KEY_PASSPHRASE
    MLFLOW_TRACKING_TOKEN MLFLOW_TRACKING_PASSWORD GITHUB_TOKEN HF_TOKEN GH_PAT AZURE_DEVOPS_EXT_PAT
    CI_JOB_JWT JWT AUTHTOKEN TOKEN_2 AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_ACCESS_KEY_ID
    AZURE_STORAGE_ACCESS_KEY AZURE_STORAGE_CONNECTION_STRING AZURE_CLIENT_SECRET
    AZURE_STORAGE_SAS_TOKEN OPENAI_API_KEY WANDB_API_KEY APIKEY STRIPE_KEY SECRET_KEY DJANGO_SECRET
    REGISTRY_CREDENTIALS NPM_AUTH password client_secret clientSecret accessKey AccountKey
    access_token refresh-token --api-key X-Api-Key X-Amz-Signature X-Amz-Credential X-Vault-Token
    dbPassword Cookie Set-Cookie Authorization Proxy-Authorization private_key odbc_connect
"""
OTHERS = """
    PWD OLDPWD PATH HOME KEYBOARD PUBLIC_KEY SSH_PUBLIC_KEY SORT_KEY PRIMARY_KEY KEY key metric_key
    TOKENIZERS_PARALLELISM USE_TOKEN REQUIRE_PASSWORD ALLOW_EMPTY_PASSWORD TOKEN_FILE PASSWORD_FILE
    SSH_AUTH_SOCK SSH_ASKPASS GIT_ASKPASS TOKEN_URL JWT_TTL SECRET_NAME API_KEY_NAME AWS_REGION
    AWS_PROFILE AZURE_CLIENT_ID AZURE_TENANT_ID COMPASS monkey bypass author pad_token max_tokens
    passed passes learning_rate MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME pass pattern signature
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OTHERS.split())
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("value", ["hunt", "hunter22", "p@ss word", "123456", "correct horse"])
def test_values_that_can_be_told_from_other_text(value: str) -> None:
    assert is_telling(value)
    assert is_stated(value)


@pytest.mark.parametrize(
    "value", ["", "1", "12", "8080", "abc", "true", "yes", "None", "admin", "ROOT", "xxxxxxxx"]
)
def test_values_that_would_hide_half_a_log(value: str) -> None:
    assert not is_telling(value)
