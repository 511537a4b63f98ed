"""Which names are those of secrets, and which values can be told from ordinary text."""

from __future__ import annotations

import pytest

from fm_mlflow.process.secret_names import is_secret, is_secret_name, is_stated, is_telling

SECRETS = """
    PGPASSWORD MYSQL_PWD DB_PASS SMTP_PASS REDISCLI_AUTH MYSQL_ROOT_PASSWORD KEY_PASSPHRASE
    MLFLOW_TRACKING_TOKEN MLFLOW_TRACKING_PASSWORD GITHUB_TOKEN HF_TOKEN GH_PAT AZURE_DEVOPS_EXT_PAT
    CI_JOB_JWT JWT AUTHTOKEN TOKEN_2 AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_ACCESS_KEY_ID
    AZURE_STORAGE_ACCESS_KEY AZURE_STORAGE_CONNECTION_STRING AZURE_CLIENT_SECRET
    AZURE_STORAGE_SAS_TOKEN OPENAI_API_KEY WANDB_API_KEY APIKEY STRIPE_KEY SECRET_KEY DJANGO_SECRET
    REGISTRY_CREDENTIALS NPM_AUTH password client_secret clientSecret accessKey AccountKey
    access_token refresh-token --api-key X-Api-Key X-Amz-Signature X-Amz-Credential X-Vault-Token
    dbPassword Cookie Set-Cookie Authorization Proxy-Authorization private_key odbc_connect
    PIN user_pin card-pin otp db.password fit_2/api_token
"""
OTHERS = """
    PWD OLDPWD PATH HOME KEYBOARD PUBLIC_KEY SSH_PUBLIC_KEY SORT_KEY PRIMARY_KEY KEY key metric_key
    TOKENIZERS_PARALLELISM USE_TOKEN REQUIRE_PASSWORD ALLOW_EMPTY_PASSWORD TOKEN_FILE PASSWORD_FILE
    SSH_AUTH_SOCK SSH_ASKPASS GIT_ASKPASS TOKEN_URL JWT_TTL SECRET_NAME API_KEY_NAME AWS_REGION
    AWS_PROFILE AZURE_CLIENT_ID AZURE_TENANT_ID COMPASS monkey bypass author pad_token max_tokens
    passed passes learning_rate MLFLOW_TRACKING_URI MLFLOW_TRACKING_USERNAME pass pattern signature
    pin_memory spin model.key
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


@pytest.mark.parametrize(
    "named",
    [
        *("token_dim=64", "model.token_dim=1024", "token_dim=50257", "pass_filter=1024"),
        *("token_mixing=0.25", "token_blocks=8", "token_lr=1e-05", "pass_filters=[1024, 2048]"),
        *("low_pass=0.25", "high_pass=2048", "class_token=12345", "token_heads=(4,)"),
        *("token_scale=-1.5", "pass_kernel=3x3", "token_width=4096", "token_keep=0.7,0.85"),
        *("key_size=4096", "model.use_token=true", "token=true", "password=None", "token=12"),
        *("model.token_rate=0.30000000000000004", "passes=1024", "attention.token_rank=2048"),
        *("model.max_token=2048", "compiled/pad_token=50257", "fit_2/num_token=1e3"),
        *("token_mixer=8,16", "REQUIRE_PASSWORD=1", "max_tokens=2048", "pin_memory=4096"),
    ],
)
def test_settings_named_like_secrets_are_none(named: str) -> None:
    assert not is_secret(*named.split("=", 1))


@pytest.mark.parametrize(
    "named",
    [
        *("token=abc123", "token_dim=abc123", "model.token=abc123", "model.api_key=hunter22"),
        *("password=1234", "password=7", "db_password=0.5", "PGPASSWORD=12", "secret=42"),
        *("pin=4821", "user_pin=123456", "otp=482911", "token=482911", "access_token=1234567"),
        *("token_prod=482911", "pass_db=12345", "password_prod=1.5", "secret_old=3,4"),
        *("low_pass=hunter", "pass_filter=hunter22", "class_token=hf_abc", "api_key=1.5"),
        *("token_dim=1234567890123", "token_dim=1,abc", "token_github=12345", "token_key=1,2"),
        *("passcode=99", "credentials=1.5", "api_token=1e10", "token_dim=1" + ",1" * 40),
        *("db.is_prod_password=hunter22", "arg/max_password=hunter22", "pool.min_db_password=1"),
        *("env.NO_PROXY_PASSWORD=hunter22", "smtp.enable_auth_password=7", "x:no_token=hunter22"),
        *("model.use_token=hunter22", "model.use_token=48213", "model.max_token=48213344"),
        *("db_password_hidden=48213344", "client_secret_weight=4821", "password_rank=1.5"),
        *("passcode_window=123456", "secret_width=4096", "api_token_rank=48213", "jwt_rate=1.25"),
        *("pass_phrase=4711 8150", "pass_word=4711,8150", "pass_phrase_rank=3"),
        *("token_refresh=4711 8150 9999", "token_value=12345.6789", "token_dim=48213344"),
        *("model.pad_token_prod=48213", "low_pass=4711 8150", "class_token=12345;7"),
        *("pin=482", "otp=999", "user_pin=12", "pin_code=4821", "fit_2/totp=007", "PIN=1"),
    ],
)
def test_secrets_are_hidden_whatever_they_look_like(named: str) -> None:
    assert is_secret(*named.split("=", 1))
