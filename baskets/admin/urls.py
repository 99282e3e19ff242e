"""The addresses of the first page, the search, the sign-in and the account pages; they stand before those of Django's admin site."""

from django.contrib import admin
from django.urls import path
from django.views.i18n import set_language

from baskets.admin import search
from baskets.admin.auth import account, login
from baskets.admin.home import views

app_name = "staff"
urlpatterns = [
    path("", admin.site.admin_view(views.home_page), name="home"),
    path("records/", admin.site.admin_view(views.records_page), name="records"),
    path("search/", admin.site.admin_view(search.search_page), name="search"),
    path("language/", set_language, name="language"),
    path("login/", login.SignIn.as_view(), name="sign_in"),
    path("login/code/", account.ConfirmCode.as_view(), name="code"),
    path("login/set-up/", account.Enrol.as_view(), name="enrol"),
    path("password_change/", admin.site.admin_view(account.ChangePassword.as_view()), name="password"),
    path("account/", admin.site.admin_view(account.account_page), name="account"),
    path("account/remove/", account.RemoveFactor.as_view(), name="remove"),
    path("account/codes/", account.RenewCodes.as_view(), name="codes"),
    path("account/<int:pk>/", admin.site.admin_view(account.account_page), name="account_of"),
]
